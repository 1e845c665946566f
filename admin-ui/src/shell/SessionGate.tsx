import { Center, Loader } from "@mantine/core";

import { useCurrencies } from "../api/currencies";
import { MeContext, useWhoAmI } from "../api/session";
import { ErrorAlert } from "../components/ErrorAlert";
import { AppFrame } from "./AppFrame";
import { SignInScreen } from "./SignInScreen";

/** The pages for a signed-in admin, the sign-in screen otherwise. */
export function SessionGate() {
  const session = useWhoAmI();
  const currencies = useCurrencies();
  const me = session.data;
  if (me === null) return <SignInScreen />;
  if (me === undefined || currencies.data === undefined) {
    const failed = [session, currencies].find(({ error }) => error !== null);
    return (
      <Center mih="100vh" p="md">
        {failed?.error ? (
          <ErrorAlert error={failed.error} onRetry={() => void failed.refetch()} />
        ) : (
          <Loader aria-label="Loading" />
        )}
      </Center>
    );
  }
  return (
    <MeContext value={me}>
      <AppFrame />
    </MeContext>
  );
}
