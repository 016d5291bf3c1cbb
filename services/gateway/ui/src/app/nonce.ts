/** The nonce of this page's styles, as the gateway wrote it (for Mantine and CodeMirror); empty where `vite` serves. */
export const nonce = document.querySelector<HTMLMetaElement>('meta[name="style-nonce"]')?.content ?? "";

// Where the package that holds the page still below a dialog looks for it.
if (nonce !== "") (globalThis as { __webpack_nonce__?: string }).__webpack_nonce__ = nonce;
