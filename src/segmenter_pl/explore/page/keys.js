// What keys do; the list of them is the dialog of index.html.
import { $ } from "./elements.js";

export function listenToKeys({ pictures, controls, film, forget }) {
  const actions = {
    n: () => pictures.move(1),
    p: () => pictures.move(-1),
    "[": () => controls.move(-1, 0),
    "]": () => controls.move(1, 0),
    ",": () => controls.move(0, -1),
    ".": () => controls.move(0, 1),
    " ": () => film.toggle(),
    Escape: forget,
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], select, dialog *");
    const pressing = event.key === " " && event.target.matches("button, input, a, summary");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
  $("keys").addEventListener("click", () => $("help").showModal());
}
