/** An e-mail address or the like that, where it must break, breaks at its "@". */
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
