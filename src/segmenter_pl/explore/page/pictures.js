// The list of pictures and videos, and new ones that are dropped or chosen.
import { $, during, make, notice } from "./elements.js";
import { upload } from "./server.js";

const MANY = 12; // from here on names can be filtered

export class Pictures {
  // items: as the server lists them. chosen(item) is called when one is to be shown.
  constructor(items, limit, chosen) {
    Object.assign(this, { limit, chosen, current: null });
    $("limit").textContent = Math.round(limit / 1e6);
    $("none").hidden = items.length > 0;
    $("filter").hidden = items.length < MANY;
    for (const item of items) $("list").append(this.#entry(item));
    $("filter").addEventListener("input", () => {
      const words = $("filter").value.toLowerCase();
      for (const entry of $("list").children) entry.hidden = !entry.title.toLowerCase().includes(words);
    });
    $("file").addEventListener("change", () => {
      this.take($("file").files);
      $("file").value = "";
    });
    this.#dropping();
  }

  #entry(item) {
    const small = make("img", { src: `/pictures/${item.id}/thumbnail`, alt: "", loading: "lazy" });
    const button = make("button", { type: "button" }, small, make("span", { textContent: item.name }));
    if (item.video) button.append(make("em", { textContent: "video" }));
    button.addEventListener("click", () => this.choose(entry));
    const entry = make("li", { title: item.name }, button);
    entry.item = item;
    entry.dataset.id = item.id;
    return entry;
  }

  #dropping() {
    const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    addEventListener("drop", (event) => {
      document.body.classList.remove("dropping");
      if (!files(event)) return;
      event.preventDefault();
      this.take(event.dataTransfer.files);
    });
  }

  choose(entry) {
    for (const one of $("list").children) one.firstChild.ariaCurrent = String(one === entry);
    this.current = entry;
    entry.scrollIntoView({ block: "nearest", inline: "nearest" });
    notice("");
    this.chosen(entry.item);
  }

  move(steps) {
    const shown = [...$("list").children].filter((entry) => !entry.hidden);
    const place = this.current ? shown.indexOf(this.current) + steps : 0;
    if (shown[place]) this.choose(shown[place]);
  }

  async take(files) {
    if (!files.length) return;
    const [file] = files;
    const refusal = this.#refusal(file, files.length);
    if (refusal) {
      notice(refusal);
      return;
    }
    const item = await during(upload(file));
    if (!item) return;
    const entry = this.#entry(item);
    $("list").prepend(entry);
    $("none").hidden = true;
    this.choose(entry);
  }

  #refusal(file, count) {
    const most = Math.round(this.limit / 1e6);
    if (count > 1) return "One picture at a time, please; a whole folder is given to the command.";
    if (file.size > this.limit)
      return `${file.name} has ${Math.ceil(file.size / 1e6)} MB, and ${most} MB are the limit for what is dropped here: give it to the command, segmenter explore CKPT PICTURES.`;
    if (file.type.startsWith("video/"))
      return `${file.name} is a video: give it to the command, segmenter explore CKPT ${file.name}.`;
    return "";
  }
}
