// The panes: one for each model, and where two know the same classes, one for their differences.
import { $, make, percent } from "./elements.js";
import { Pane } from "./pane.js";

const MOST = 3; // kinds of differences that are told

export class Views {
  constructor(models, same, calls) {
    this.classes = models[0].classes;
    const two = models.length > 1;
    this.models = models.map(({ name }, i) => new Pane(two ? "AB"[i] : "A", two ? `${"AB"[i]} ${name}` : name, calls));
    this.difference = two && same ? new Pane("difference", "Difference", calls) : null;
    this.panes = this.difference ? [...this.models, this.difference] : this.models;
    this.note = two && !same ? "The two models know different classes: their labels cannot be compared." : "";
    this.#offer();
    for (const [id, name] of [["overlay", "--overlay"], ["heat", "--heat"]]) {
      const put = () => $("panes").style.setProperty(name, $(id).value / 100);
      $(id).addEventListener("input", put);
      put();
    }
  }

  // Buttons that show and hide panes; one stays.
  #offer() {
    if (this.panes.length === 1) return;
    $("views").hidden = false;
    const buttons = this.panes.map((pane) => {
      const button = make("button", { type: "button", textContent: pane.key === "difference" ? "Difference" : pane.key });
      button.dataset.view = pane.key;
      button.ariaPressed = "true";
      button.addEventListener("click", () => {
        const others = this.panes.filter((one) => one !== pane && !one.element.hidden);
        pane.element.hidden = !pane.element.hidden && others.length > 0;
        button.ariaPressed = String(!pane.element.hidden);
        this.#count();
      });
      return button;
    });
    $("views").replaceChildren(...buttons);
  }

  #count() {
    $("panes").dataset.count = this.panes.filter((pane) => !pane.element.hidden).length;
  }

  // A new picture is on its way.
  begin() {
    if (!this.panes[0].element.isConnected) {
      $("panes").replaceChildren(...this.panes.map((pane) => pane.element));
      if (this.note) $("panes").append(make("p", { className: "note", textContent: this.note }));
      this.#count();
    }
    for (const pane of this.panes) pane.clear("labels", "attention", "mark");
    this.difference?.tell("");
  }

  showPicture(bitmap) {
    for (const pane of this.panes) pane.showPicture(bitmap);
  }

  // Where the label maps of two models differ, and in what.
  compare([one, other]) {
    if (!this.difference) return;
    const share = this.difference.showDifference(one, other);
    const counts = new Map();
    const classes = this.classes.length;
    one.data.forEach((label, i) => {
      if (label === other.data[i]) return;
      const pair = label * classes + other.data[i];
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    });
    const often = [...counts].sort((a, b) => b[1] - a[1]).slice(0, MOST);
    const told = often.map(([pair, count]) => {
      const names = [this.classes[Math.floor(pair / classes)], this.classes[pair % classes]];
      return `${names.join(" → ")} ${percent(count / one.data.length)}`;
    });
    this.difference.tell([`${percent(share)} of the pixels`, told.join(", ")].filter(Boolean).join(": "));
  }
}
