import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { Purchase } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { outcomeOf } from "../../logic/purchases";

export function ReconcileAllDialog({ onClose }: { onClose: () => void }) {
  return (
    <ActionDialog
      title="Reconcile all purchases"
      confirmLabel="Reconcile"
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/purchases/reconcile"))}
      done={null}
    >
      <Text size="sm">
        The worker compares all unsettled purchases with Stripe and books missing credits. It also does this automatically
        every few minutes; an additional run is safe.
      </Text>
    </ActionDialog>
  );
}

export function ReconcileDialog({ purchase, onClose }: { purchase: Purchase; onClose: () => void }) {
  return (
    <ActionDialog
      title="Reconcile purchase"
      confirmLabel="Reconcile"
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/purchases/{purchase_id}/reconcile", {
            params: { path: { purchase_id: purchase.purchase_id } },
          }),
        )
      }
      done={outcomeOf}
    >
      <Text size="sm">
        Compares the purchase with Stripe. If the payment was received, its credits are booked once. The card is not charged.
      </Text>
    </ActionDialog>
  );
}
