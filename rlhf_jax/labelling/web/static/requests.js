// Requests to the server. A lost connection is told apart from a refusal: the first is
// tried again, the second is shown.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Unreachable extends Error {}

const csrf = document.querySelector('meta[name="csrf"]').content;

export async function call(method, path, body) {
  let reply;
  try {
    reply = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Unreachable("The server cannot be reached.");
  }
  if (reply.status >= 500 || reply.status === 429) throw new Unreachable("The server is busy.");
  const found = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refused(reply.status, found.error || `Error ${reply.status}`);
  return found;
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Until it arrives. Safe for what carries a token: sent twice, it is stored once.
export async function insist(method, path, body, waiting) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      const found = await call(method, path, body);
      waiting(false);
      return found;
    } catch (error) {
      if (!(error instanceof Unreachable)) {
        waiting(false);
        throw error;
      }
      waiting(true);
      await pause(wait);
    }
  }
}

export function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
