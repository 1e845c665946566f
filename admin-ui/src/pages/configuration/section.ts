import type { ConfigSection, SectionState } from "../../api/models";
import type { Parsed } from "../../logic/configuration";
import type { Facts } from "../../logic/diff";

export interface Edit {
  version: number;
  reason: string;
}

/** How a section is loaded, edited and saved. */
export interface SectionForm<State extends SectionState, Draft, Document> {
  section: ConfigSection;
  /** The consequences of a change for users and agents. */
  consequences: string;
  read: (signal: AbortSignal) => Promise<State>;
  documentOf: (state: State) => Document;
  toDraft: (document: Document) => Draft;
  parse: (draft: Draft) => Parsed<Document>;
  /** Describe the changed amounts that are unusually large; null: none. */
  unusualIn: (document: Document, before: Document) => string | null;
  /** Convert a version's document. */
  fromVersion: (document: Facts) => Document;
  save: (document: Document, edit: Edit) => Promise<State>;
}

export interface FormProps<Draft> {
  draft: Draft;
  set: (draft: Draft) => void;
  /** Return the error of a field, by its name in the form; undefined: none to show. */
  errorOf: (name: string) => string | undefined;
  readOnly: boolean;
}

export const keyOf = (section: ConfigSection) => ["configuration", section];
