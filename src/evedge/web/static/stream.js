// Server-sent events by fetch. EventSource would not tell why it was refused, hides the comments by which a silent
// gateway is told from a lost connection, and gives up for good after some answers.

/**
 * The events of one connection, as [name, data], until the other side ends it. Throws when there is no connection, when
 * nothing was heard for silentMs, and when `leave` (an AbortSignal) is aborted.
 */
export async function* events(url, silentMs, leave) {
  const lost = new AbortController();
  const stop = () => lost.abort(leave.reason);
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => lost.abort(new Error(`nothing was heard for ${silentMs / 1000} s`)), silentMs);
  };
  leave.addEventListener("abort", stop);
  try {
    heard();
    const answer = await fetch(url, { cache: "no-store", signal: lost.signal });
    if (!answer.ok) throw new Error(`it answers ${answer.status}: ${(await answer.text()).trim()}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const frames = (text + value).split("\n\n");
      text = frames.pop();
      yield* frames.map(parse).filter(([, data]) => data !== undefined);
    }
  } finally {
    clearTimeout(silence);
    leave.removeEventListener("abort", stop);
    lost.abort();
  }
}

/** One frame's event name and data; a comment has none. The gateway writes each field once. */
function parse(frame) {
  const fields = Object.fromEntries(frame.split("\n").map((line) => {
    const colon = line.indexOf(": ");
    return [line.slice(0, colon), line.slice(colon + 2)];
  }));
  return [fields.event, fields.data === undefined ? undefined : JSON.parse(fields.data)];
}
