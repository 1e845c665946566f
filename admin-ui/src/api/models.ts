import type { components, paths } from "./schema";

type Schemas = components["schemas"];

export type WhoAmI = Schemas["WhoAmI"];
export type Currency = Schemas["CurrencyReply"];
export type Role = WhoAmI["role"];
export type UserRow = Schemas["UserRow"];
export type User = Schemas["UserReply"];
export type Inventory = Schemas["InventoryReply"];
export type TimelineEntry = Schemas["TimelineEntry"];
export type Move = Schemas["Move"];
export type ApiKey = Schemas["KeyReply"];
export type ApiKeyBody = Schemas["KeyBody"];
export type ApiKeyChange = Schemas["KeyChange"];
export type Permission = Schemas["Permission"];
export type NewApiKey = Schemas["NewKeyReply"];
export type PurchaseRow = Schemas["PurchaseRow"];
export type Purchase =
  paths["/admin/purchases/{purchase_id}"]["get"]["responses"][200]["content"]["application/json"];
export type Booked = Schemas["BookedReply"];
export type Alert = Schemas["AlertReply"];
export type AlertRule = Schemas["RuleReply"];
export type AuditEntry = Schemas["AuditRow"];
export type Person = Schemas["Person"];
export type Refund = Schemas["RefundReply"];
export type AdminUser = Schemas["AdminReply"];
export type AdminSession = Schemas["SessionReply"];
export type Job = Schemas["JobReply"];
export type InboxEvent = Schemas["InboxEvent"];
export type System = Schemas["SystemReply"];
export type PacksState = Schemas["PacksReply"];
export type ProductsState = Schemas["CatalogueReply"];
export type DefaultsState = Schemas["DefaultsReply"];
export type PackDocument = Schemas["NamedPack"];
export type ProductDocument = Schemas["NamedProduct"];
export type DefaultsDocument = Omit<Schemas["DefaultsBody"], "version" | "reason">;
export type ProviderState = Schemas["ProviderReply"];
export type Providers = Schemas["ProvidersReply"];
export type SectionState = Pick<PacksState, "version" | "source" | "reason" | "changed_by" | "changed_at">;
export type ConfigVersion = Schemas["VersionReply"];
export type ConfigSection = Schemas["VersionsReply"]["section"];
export type Overview = Schemas["OverviewReply"];
export type Day = Schemas["Day"];
export type Reconciled = Schemas["ReconciledFigures"];
export type Reconciliation = Schemas["ReconciliationReply"];
export type Usage = Pick<Day, "uses" | "spent" | "product_free" | "product_paid">;
export type Sales = Schemas["Sales"];
export type MarginAgent = Schemas["MarginAgent"];
export type MarginTool = Schemas["MarginTool"];
export type Cohort = Schemas["Cohort"];
export type TopUser = Schemas["TopUser"];
export type ModelUsage = Schemas["ModelUsage"];
export type MarginModel = Schemas["MarginModel"];
export type MarginOverview = Schemas["MarginOverviewReply"];
export type Margin = Schemas["Margin"];
export type MarginDay = Schemas["MarginDay"];
export type InteractionMargin = Schemas["InteractionMargin"];
export type Environment = UserRow["environment"];

type Query<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Q } } }
  ? NonNullable<Q>
  : never;

export type UsersQuery = Query<"/admin/users">;
export type TimelineQuery = Query<"/admin/users/{account_id}/timeline">;
export type PurchasesQuery = Query<"/admin/purchases">;
export type AlertsQuery = Query<"/admin/alerts">;
export type AuditQuery = Query<"/admin/audit-logs">;
