import type { ConfigSection, SectionState } from "../../api/models";
import type { Parsed } from "../../logic/configuration";
import type { Facts } from "../../logic/diff";

export interface Edit {
  version: number;
  reason: string;
}

/** How one section is read, edited and written. */
export interface SectionForm<State extends SectionState, Draft, Document> {
  section: ConfigSection;
  /** What a change does to those who buy, use or start. */
  consequences: string;
  read: (signal: AbortSignal) => Promise<State>;
  documentOf: (state: State) => Document;
  toDraft: (document: Document) => Draft;
  parse: (draft: Draft) => Parsed<Document>;
  /** Amounts that the document has and the other one has not, and that are unusually large; null: none. */
  unusualIn: (document: Document, before: Document) => string | null;
  /** A version's document, which is of this section. */
  fromVersion: (document: Facts) => Document;
  save: (document: Document, edit: Edit) => Promise<State>;
}

export interface FormProps<Draft> {
  draft: Draft;
  set: (draft: Draft) => void;
  /** The message for a field, by its name in the form; undefined: nothing to complain about yet. */
  errorOf: (name: string) => string | undefined;
  readOnly: boolean;
}

export const keyOf = (section: ConfigSection) => ["configuration", section];
