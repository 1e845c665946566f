import type { MarginModel } from "../api/models";

/** Of exact decimals only the sign is looked at. */
function isLoss({ margin_cents: cents }: MarginModel): boolean {
  return cents?.startsWith("-") ?? false;
}

/** The models that cost more than they earn, the greatest loss first. */
export function lossesOf(models: MarginModel[]): MarginModel[] {
  return models.filter(isLoss).toSorted((one, other) => Number(one.margin_cents) - Number(other.margin_cents));
}
