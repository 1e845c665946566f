import { Center, Loader } from "@mantine/core";

import { MeContext, useWhoAmI } from "../api/session";
import { ErrorAlert } from "../components/ErrorAlert";
import { AppFrame } from "./AppFrame";
import { SignInScreen } from "./SignInScreen";

/** The pages for whom the server knows, the way in for everybody else. */
export function SessionGate() {
  const { data: me, error, refetch } = useWhoAmI();
  if (me === null) return <SignInScreen />;
  if (me === undefined) {
    return (
      <Center mih="100vh" p="md">
        {error ? <ErrorAlert error={error} onRetry={() => void refetch()} /> : <Loader aria-label="Loading" />}
      </Center>
    );
  }
  return (
    <MeContext value={me}>
      <AppFrame />
    </MeContext>
  );
}
