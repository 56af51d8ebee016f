// The page: what is chosen, what has come from the server, and what is shown of it.
import { AttentionControls } from "./attention.js";
import { $, during, make } from "./elements.js";
import { Film } from "./film.js";
import { listenToKeys } from "./keys.js";
import { Legend } from "./legend.js";
import { Pictures } from "./pictures.js";
import { Pointing } from "./pointing.js";
import { json, latest } from "./server.js";
import { Shown } from "./shown.js";
import { Views } from "./views.js";

const { models, same_classes: same, limit } = await json("/about");
const letters = ["A", "B"].slice(0, models.length);

let item = null; // what is to be shown; `shown` has what has come

const shown = new Shown(models);
const views = new Views(models, same, {
  point: (x, y) => pointing.put(x, y),
  step: (dx, dy) => pointing.step(dx, dy),
  under,
});
const legends = same
  ? [new Legend(models[0], letters, recolor)]
  : models.map((model, i) => new Legend(model, [letters[i]], recolor));
const may = () => shown.item !== null && shown.item === item && !film.playing;
const pointing = new Pointing({ models, same, views, shown, may });
pointing.controls = new AttentionControls(models, () => pointing.draw());
pointing.controls.clear();
const film = new Film(showFrame, () => pointing.again());
const pictures = new Pictures(await json("/pictures"), limit, choose);

function recolor() {
  shown.labels.forEach((labels, i) => labels && views.models[i].showLabels(labels, legends[same ? 0 : i].table));
}

function choose(chosen) {
  item = chosen;
  pointing.forget();
  shown.clear();
  views.begin();
  film.open(null);
  $("status").textContent = `${item.name}: segmenting…`;
  $("downloads").replaceChildren();
  begin();
}

const begin = latest(async () => {
  const wanted = item;
  const length = item.video ? await during(json(`/pictures/${item.id}/length`)) : null;
  if (item !== wanted) return;
  if (item.video && length) film.open(length);
  await showFrame(0);
});

// Shows a picture, or a frame of the video; resolves to whether it is there and still wanted.
async function showFrame(frame) {
  const wanted = item;
  if (film.playing) pointing.hideAttention();
  const early = (bitmap) => item === wanted && !item.video && views.showPicture(bitmap);
  const found = await during(shown.fetch(wanted, frame, early));
  if (item !== wanted) return false;
  if (!found) {
    if (!shown.item) $("status").textContent = `${item.name}: not shown`;
    return false;
  }
  const first = !shown.labels.some(Boolean);
  shown.put(wanted, frame, found);
  views.showPicture(shown.bitmap);
  recolor();
  views.compare(shown.labels);
  if (same) legends[0].show(shown.labels.map((one) => one.shares), first);
  else legends.forEach((legend, i) => legend.show([shown.labels[i].shares], first));
  $("downloads").replaceChildren(...shown.downloads(letters));
  describe();
  return true;
}

function describe() {
  const times = shown.labels.map(({ seconds }, i) => {
    const who = models.length > 1 ? letters[i] : "segmented";
    return `${who} in ${seconds.toFixed(2)} s`;
  });
  const { width, height } = shown.bitmap;
  const frame = item.video ? `, frame ${shown.frame}` : "";
  const device = [...new Set(models.map((model) => model.device))].join(" and ");
  $("status").textContent = `${item.name}${frame}, ${width}×${height}; ${times.join(", ")}, on ${device}`;
}

// What is under the pointer, without asking the server.
function under(x, y) {
  const there = x !== null && shown.labels.some(Boolean);
  $("under").textContent = there ? `${x}, ${y}: ${shown.namesAt(x, y, letters)}` : "";
}

for (const [i, { name, path, device, seen }] of models.entries()) {
  const entry = make("li", { title: `${path}\n${device}, window ${seen.window}, stride ${seen.stride}` });
  entry.append(make("b", { textContent: models.length > 1 ? letters[i] : "" }), name);
  $("models").append(entry);
}
legends.forEach((legend, i) => {
  if (!same) $("legends").append(make("h3", { textContent: `${letters[i]}: ${models[i].name}` }));
  $("legends").append(legend.element);
});
$("all").addEventListener("click", () => legends.forEach((legend) => legend.set(1)));
$("nothing").addEventListener("click", () => legends.forEach((legend) => legend.set(0)));
listenToKeys({ pictures, controls: pointing.controls, film, forget: () => pointing.forget() });
document.body.dataset.ready = "true";
