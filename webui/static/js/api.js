// @ts-check
/** The REST API as the pages use it: the session's cookie, a CSRF token, errors as one class. */

/** What went wrong, which field, and the way out. Mirrors {code, message, extra} of the server. */
export class ApiError extends Error {
  /**
   * @param {string} code @param {string} message
   * @param {{field?: string, hint?: string, [key: string]: unknown}} extra
   * @param {number} status HTTP number; 0 when no answer came
   */
  constructor(code, message, extra, status) {
    super(message);
    this.code = code;
    this.extra = extra;
    this.field = extra.field ?? "";
    this.hint = extra.hint ?? "";
    this.status = status;
  }
}

/** Django's token: from the cookie, or from the page when the cookie is hidden from scripts. */
export function csrfToken() {
  const cookie = /(?:^|;\s*)slipway_csrf=([^;]+)/.exec(document.cookie);
  if (cookie) return decodeURIComponent(cookie[1]);
  const input = document.querySelector("input[name=csrfmiddlewaretoken]");
  return input instanceof HTMLInputElement ? input.value : "";
}

/**
 * One request. Returns the parsed JSON, or null for an empty answer; throws ApiError.
 * @param {string} method @param {string} url @param {unknown} [body] sent as JSON
 * @returns {Promise<any>}
 */
export async function api(method, url, body) {
  let response;
  try {
    response = await fetch(url, {
      method,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        "X-CSRFToken": csrfToken(),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError("unreachable", "Slipway does not answer.", {
      hint: "Is it running? What you typed is still here; try again.",
    }, 0);
  }
  return readAnswer(response.status, await response.text());
}

/** @param {number} status @param {string} text @returns {any} */
function readAnswer(status, text) {
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    if (status < 400) return text;
  }
  if (status < 400) return data;
  if (data && typeof data.code === "string") {
    const extra = data.extra ?? {};
    throw new ApiError(data.code, data.message, { hint: data.hint, ...extra }, status);
  }
  if (status === 401 || status === 403) {
    throw new ApiError("forbidden", "You may not do this, or your session has ended.", {
      hint: "Sign in again in another tab; what you typed stays here.",
    }, status);
  }
  throw new ApiError("http_error", `The server answered ${status}.`, {}, status);
}

/**
 * Bytes as they are. Throws ApiError.
 * @param {string} url @returns {Promise<{data: Uint8Array, header: (name: string) => string}>}
 */
export async function apiBytes(url) {
  try {
    const response = await fetch(url, { credentials: "same-origin" });
    if (!response.ok) return readAnswer(response.status, await response.text());
    return { data: new Uint8Array(await response.arrayBuffer()), header: (name) => response.headers.get(name) ?? "" };
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError("unreachable", "What came is not whole.", { hint: "Try it again." }, 0);
  }
}

/**
 * Upload a form, or a file, with progress, which fetch cannot tell.
 * @param {string} url @param {FormData|Blob} body
 * @param {(sent: number, total: number) => void} onProgress bytes
 * @param {string} [method]
 * @returns {Promise<any>}
 */
export function upload(url, body, onProgress, method = "POST") {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("error", () => {
      reject(new ApiError("unreachable", "The upload broke off.", {
        hint: "Check the connection, and try it again.",
      }, 0));
    });
    request.addEventListener("load", () => {
      try {
        resolve(readAnswer(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    });
    request.send(body);
  });
}
