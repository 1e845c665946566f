import type { MarginModel } from "../api/models";

/** Only the sign of the exact decimal matters. */
function isLoss({ margin_cents: cents }: MarginModel): boolean {
  return cents?.startsWith("-") ?? false;
}

/** Return the models that cost more than they earn, the largest loss first. */
export function lossesOf(models: MarginModel[]): MarginModel[] {
  return models.filter(isLoss).toSorted((one, other) => Number(one.margin_cents) - Number(other.margin_cents));
}
