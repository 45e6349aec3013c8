// The page in a browser: messages over a websocket, which is opened again when it closes.
import { mount } from "./play.js";

const SHORTEST = 500, LONGEST = 5000; // milliseconds between two attempts

function connect(handlers) {
  let socket = null, wait = SHORTEST, opened = false;
  const token = new URLSearchParams(location.search).get("token") ?? "";
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const path = location.pathname.replace(/[^/]*$/, "live");
    socket = new WebSocket(`${scheme}://${location.host}${path}?token=${encodeURIComponent(token)}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { wait = SHORTEST; opened = true; handlers.opened(); };
    socket.onmessage = (event) => handlers.received(event.data);
    socket.onclose = (event) => {
      const why = event.reason || (opened ? "The server does not answer." : "The server is not there, or this link is not its link: open the one that it prints.");
      handlers.closed(why);
      setTimeout(open, wait);
      wait = Math.min(LONGEST, wait * 1.6);
    };
  };
  open();
  return { send: (data) => { if (socket.readyState === WebSocket.OPEN) socket.send(data); } };
}

mount(document.getElementById("play"), connect);
