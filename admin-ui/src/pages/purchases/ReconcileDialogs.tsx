import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { Purchase } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { outcomeOf, reconciledOf } from "../../logic/purchases";

export function ReconcileAllDialog({ onClose }: { onClose: () => void }) {
  return (
    <ActionDialog
      title="Reconcile all purchases"
      confirmLabel="Ask Stripe now"
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/purchases/reconcile"))}
      done={reconciledOf}
    >
      <Text size="sm">
        Everything that is not settled is compared with Stripe, and what is missing is booked. The worker does the same
        every few minutes; doing it twice changes nothing.
      </Text>
    </ActionDialog>
  );
}

export function ReconcileDialog({ purchase, onClose }: { purchase: Purchase; onClose: () => void }) {
  return (
    <ActionDialog
      title="Reconcile this purchase"
      confirmLabel="Ask Stripe now"
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
        The purchase is compared with Stripe. If money arrived, its credits are booked, once. Nothing is charged.
      </Text>
    </ActionDialog>
  );
}
