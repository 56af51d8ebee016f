// Playing a video: frames are segmented as they come, and once they are kept, shown at the video's own speed.
import { $ } from "./elements.js";
import { latest } from "./server.js";

export class Film {
  // show(frame): shows a frame, and resolves to whether there was one. paused(): called when it comes to rest.
  constructor(show, paused) {
    Object.assign(this, { show, paused, playing: false, frame: 0, rate: 25, frames: null });
    this.sought = latest(async () => (await show(this.frame)) && paused());
    $("play").addEventListener("click", () => this.toggle());
    $("frame").addEventListener("input", () => this.seek(Number($("frame").value)));
  }

  // A video's number of frames, null if it does not tell, and frames per second; null for a picture.
  open(length) {
    this.stop();
    $("film").hidden = !length;
    if (!length) return;
    Object.assign(this, length, { frame: 0 });
    $("frame").max = Math.max((length.frames ?? 1) - 1, 0);
    $("frame").disabled = length.frames === null;
    this.#tell();
  }

  #tell() {
    const frame = Math.max(this.frame, 0);
    $("frame").value = frame;
    const seconds = (frame / this.rate).toFixed(2);
    $("where").textContent = `${frame}${this.frames ? ` of ${this.frames}` : ""}, ${seconds} s`;
    $("play").textContent = this.playing ? "Pause" : "Play";
  }

  stop() {
    this.playing = false;
    if (!$("film").hidden) this.#tell();
  }

  seek(frame) {
    this.stop();
    this.frame = frame;
    this.#tell();
    this.sought();
  }

  async toggle() {
    if ($("film").hidden) return;
    if (this.playing) {
      this.stop();
      return;
    }
    const step = () => Number($("step").value);
    if (this.frames && this.frame + step() >= this.frames) this.frame = -step();
    this.playing = true;
    this.#tell();
    const turn = (this.turn = Symbol("turn")); // an earlier loop that still waits for its frame ends
    while (this.playing && this.turn === turn) {
      const next = this.frame + step();
      const due = performance.now() + (1000 * step()) / this.rate;
      if ((this.frames && next >= this.frames) || !(await this.show(next))) break;
      if (this.turn !== turn) return;
      this.frame = next;
      this.#tell();
      await new Promise((resolve) => setTimeout(resolve, Math.max(due - performance.now(), 0)));
    }
    if (this.turn !== turn) return;
    this.stop();
    this.paused();
  }
}
