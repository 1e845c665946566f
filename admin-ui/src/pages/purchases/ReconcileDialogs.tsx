import { Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import type { Purchase } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { outcomeOf } from "../../logic/purchases";

export function ReconcileAllDialog({ onClose }: { onClose: () => void }) {
  return (
    <ActionDialog
      title="Reconcile all purchases"
      confirmLabel="Ask Stripe now"
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/purchases/reconcile"))}
      done={null}
    >
      <Text size="sm">
        The worker compares everything that is not settled with Stripe, and books what is missing. It does the same every
        few minutes by itself; doing it twice changes nothing.
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
