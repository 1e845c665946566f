import { api, bodyOf } from "../../api/client";
import type { QueuedApproval } from "../../api/models";
import { ReasonDialog } from "../../components/ReasonDialog";

const TEXTS = {
  title: "Deny request",
  confirm: "Deny",
  danger: true,
  consequences: "For a day after this request, the same request or a larger one is refused without a new approval.",
  done: "Request denied",
};

export function DenyDialog({ approval, onClose }: { approval: QueuedApproval; onClose: () => void }) {
  const path = { approval_id: approval.approval_id };
  return (
    <ReasonDialog
      texts={TEXTS}
      onClose={onClose}
      act={(reason) => bodyOf(api.POST("/admin/approvals/{approval_id}/deny", { params: { path }, body: { reason } }))}
    />
  );
}
