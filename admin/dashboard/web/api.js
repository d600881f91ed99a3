// The control API, asked with the session's cookie.

// Failure is an answer that is not a success; its message is for people.
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let loggedOut = () => {};

// onLoggedOut is told when the session has ended.
export function onLoggedOut(f) {
  loggedOut = f;
}

async function call(method, path, body, headers = {}) {
  const options = { method, headers, credentials: "same-origin", redirect: "error" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Failure(0, "sipward does not answer. Is it running, and is the network up?");
  }
  let answer = null;
  if ((response.headers.get("Content-Type") ?? "").startsWith("application/json")) {
    try {
      answer = await response.json();
    } catch {
      throw new Failure(response.status, "The answer broke off.");
    }
  }
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/v1/session" && path !== "/ui/link") loggedOut();
  throw new Failure(response.status, answer?.error ?? `sipward answered ${response.status}.`);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
// logIn opens a session with a token, which is not kept here.
export const logIn = (token) => call("POST", "/v1/session", undefined, { Authorization: "Bearer " + token });
export const del = (path) => call("DELETE", path);
export const query = (path, params) => path + "?" + new URLSearchParams(params);
