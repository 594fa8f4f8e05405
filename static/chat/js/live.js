// The page's one WebSocket: carries `cancel`, brings small pushes. Every push has a durable twin, so a lost one costs nothing:
// after a reconnect the page fetches the sidebar and the thread again.

const LONGEST_WAIT = 15_000;   // ms between two attempts
const GONE = [4401, 4403];     // not logged in, no right: coming back would change nothing
const FULL = [4429, 4503];     // no room for one more: worth a try now and then

/**
 * @param {string} path
 * @param {Object<string, function>} handlers by message type; also "open" (again: boolean) and "closed" (code)
 * @returns {{send: function(object): boolean, connected: boolean}}
 */
export function liveSocket(path, handlers) {
  let socket, timer, tries = 0, opened = 0;

  function connect() {
    clearTimeout(timer);
    socket = new WebSocket(path.replace(/^/, `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`));
    socket.onopen = () => {
      tries = 0;
      handlers.open?.(opened++ > 0);
    };
    socket.onmessage = event => {
      let message;
      try { message = JSON.parse(event.data); } catch { return; }
      handlers[message.type]?.(message);   // types this page does not know are for a newer one
    };
    socket.onclose = event => {
      handlers.closed?.(event.code);
      if (GONE.includes(event.code)) return;
      if (FULL.includes(event.code)) tries = 5;
      timer = setTimeout(connect, Math.min(LONGEST_WAIT, 500 * 2 ** tries++) * (0.5 + Math.random()));
    };
  }
  const connected = () => socket?.readyState === WebSocket.OPEN;

  addEventListener("online", () => { if (!connected() && timer) connect(); });
  connect();
  return {
    /** @returns {boolean} false when the socket is not open */
    send(message) {
      if (!connected()) return false;
      socket.send(JSON.stringify(message));
      return true;
    },
    get connected() { return connected(); },
  };
}
