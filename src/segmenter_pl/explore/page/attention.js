// Which layer and head are shown; the maps of all of them are there after one question to the server.
import { mean, paintScale } from "./colors.js";
import { $, choices } from "./elements.js";

const weight = (share) => (share < 1e-4 ? "< 0.01 %" : `${(100 * share).toPrecision(2)} %`);
const NAMES = { enc: "Encoder", dec: "Decoder" };

export class AttentionControls {
  // The layers are those of the first model that has any. changed() is called after a choice.
  constructor(models, changed) {
    this.layers = (models.find((model) => model.layers.length) ?? models[0]).layers;
    this.changed = changed;
    this.several = models.length > 1 ? "; each map has a scale of its own, this one is A's" : "";
    const reasons = models.map((model) => model.why_no_attention).filter(Boolean);
    $("unable").hidden = !reasons.length;
    $("unable").textContent = reasons.join("; ");
    $("controls").hidden = $("strength").hidden = !this.layers.length;
    if (!this.layers.length) return;
    paintScale($("scale").querySelector("canvas"));
    this.head = "mean";
    const parts = [...new Set(this.layers.map((layer) => layer.part))];
    choices($("parts"), parts.map((part) => [part, NAMES[part]]), parts[0], (part) => this.#part(part));
    if (parts.length === 1) $("parts").append(" this decoder has no attention");
    $("layer").addEventListener("input", () => this.#number(Number($("layer").value)));
    this.#part(parts[0]);
  }

  #part(part) {
    this.part = part;
    const count = this.layers.filter((layer) => layer.part === part).length;
    $("layer").max = count - 1;
    this.#number(count - 1);
  }

  #number(number) {
    this.number = number;
    $("layer").value = number;
    $("number").textContent = `${number} of 0…${$("layer").max}`;
    const { heads } = this.layers.find((layer) => layer.part === this.part && layer.number === number);
    if (this.head !== "mean" && this.head >= heads) this.head = "mean";
    const all = [["mean", "Mean"], ...Array.from({ length: heads }, (_, i) => [i, String(i)])];
    this.heads = all.map(([value]) => value);
    choices($("heads"), all, this.head, (head) => {
      this.head = head;
      this.changed();
    });
    this.changed();
  }

  // A layer up or down, or a head further, as far as there is one.
  move(layers, heads) {
    if (!this.layers.length) return;
    const number = Math.min(Math.max(this.number + layers, 0), Number($("layer").max));
    const place = Math.min(Math.max(this.heads.indexOf(this.head) + heads, 0), this.heads.length - 1);
    this.head = this.heads[place];
    this.#number(number);
  }

  // The chosen map of a model whose layers may be others: then the nearest one of the same part; null without any.
  chosen(layers, maps) {
    const places = layers.map((layer, i) => [layer, i]).filter(([layer]) => layer.part === this.part);
    if (!places.length) return null;
    const [, place] = places[Math.min(this.number, places.length - 1)];
    return this.head === "mean" ? mean(maps[place]) : (maps[place][this.head] ?? mean(maps[place]));
  }

  // No point any more.
  clear() {
    $("low").textContent = $("high").textContent = "";
    $("looks").textContent = "Click the picture to see what that patch attends to; drag to move.";
  }

  tell([low, high], patch) {
    $("low").textContent = weight(low);
    $("high").textContent = `≥ ${weight(high)}`;
    $("looks").textContent = `What the patch in column ${patch[0]}, row ${patch[1]} attends to${this.several}.`;
  }
}
