// Speaks with the server: the token, waiting when it is busy, and problems as sentences.

import { byId } from "/dom.js";

const TOKEN = "cxr-keras-token";
const TRIES = 8;

/** What the server said is wrong, as a sentence for people. */
export class Problem extends Error {}

let asking = null;

/** Take a token from the address ("#token=…") and clear it there. */
export function tokenFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return;
  sessionStorage.setItem(TOKEN, found);
  history.replaceState(null, "", location.pathname + location.search);
}

/** Show the form and wait for a token; all waiting requests share one form. */
function askForToken(refused) {
  asking ??= new Promise((resolve) => {
    const form = byId("token-form");
    const input = byId("token-input");
    form.hidden = false;
    document.body.classList.add("asks-token");
    if (refused) byId("token-hint").textContent = "The server did not take this token. Try again.";
    input.value = "";
    input.focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, input.value.trim());
      form.hidden = true;
      document.body.classList.remove("asks-token");
      asking = null;
      resolve();
    };
  });
  return asking;
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function problemOf(response) {
  try {
    const said = await response.json();
    if (typeof said.detail === "string") return new Problem(said.detail);
  } catch {
    // Not JSON: the sentence below is all that can be said.
  }
  return new Problem(`The server answered with error ${response.status}.`);
}

async function send(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return [await fetch(path, { ...options, headers }), token];
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?");
  }
}

/** Fetch `path`; waits for a token and for a busy server, and throws `Problem`. */
export async function request(path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const [response, token] = await send(path, options);
    if (response.ok) return response;
    if (response.status === 401) {
      if (token === sessionStorage.getItem(TOKEN)) {
        sessionStorage.removeItem(TOKEN);
        await askForToken(token !== null);
      }
    } else if (response.status === 503 && attempt < TRIES) {
      await pause(Math.min(Number(response.headers.get("Retry-After")) || 2, 60));
    } else {
      throw await problemOf(response);
    }
  }
}

const query = (names) => new URLSearchParams(names).toString();

function form(field, file) {
  const data = new FormData();
  data.append(field, file, file.name);
  return { method: "POST", body: data };
}

/** The blob of a PNG, or null where the answer is empty (204). */
async function picture(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.blob();
}

export const getModel = async () => (await request("/v1/model")).json();

export const getResults = async (run) => (await request(`/v1/results?${query({ run })}`)).json();

/** What `run` says of one file. */
export async function predict(run, file) {
  const response = await request(`/v1/predict?${query({ run })}`, form("files", file));
  return (await response.json()).results[0];
}

export const imageOfFile = (file) => picture("/v1/image", form("file", file));

export const mapOfFile = (file, run, label, method, signal) =>
  picture(`/v1/heatmap?${query({ run, label, method })}`, { ...form("file", file), signal });

export const imageOfRow = (run, row) => picture(`/v1/results/image?${query({ run, row })}`);

export const mapOfRow = (run, row, label, method, signal) =>
  picture(`/v1/results/heatmap?${query({ run, row, label, method })}`, { signal });

export async function boxesOfRow(run, row) {
  return (await (await request(`/v1/results/boxes?${query({ run, row })}`)).json()).boxes;
}
