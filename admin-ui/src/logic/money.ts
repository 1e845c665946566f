import type { Money } from "../api/models";

const NOTHING = "0.000000";

/** Return the distinct currencies of the figures of money. */
export function moneyCurrenciesOf(rows: { money: Pick<Money, "currency">[] }[]): string[] {
  return [...new Set(rows.flatMap(({ money }) => money.map(({ currency }) => currency)))].sort();
}

/** Return the figures of a currency; zeros if there are none. */
export function moneyIn(money: Money[], currency: string): Money {
  return (
    money.find((one) => one.currency === currency) ?? {
      currency,
      events: 0,
      refused: 0,
      without_provider_cost: 0,
      cost: NOTHING,
      recorded: NOTHING,
      provider_cost: NOTHING,
      margin: NOTHING,
      purchased: NOTHING,
      granted: NOTHING,
      taken_back: NOTHING,
      ended: NOTHING,
      other_usage: NOTHING,
      debt: NOTHING,
      debt_paid: NOTHING,
    }
  );
}
