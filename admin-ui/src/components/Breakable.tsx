/** An e-mail address that wraps before its "@" if it has to wrap. */
export function Breakable({ text }: { text: string }) {
  const at = text.lastIndexOf("@");
  if (at <= 0) return text;
  return (
    <>
      {text.slice(0, at)}
      <wbr />
      {text.slice(at)}
    </>
  );
}
