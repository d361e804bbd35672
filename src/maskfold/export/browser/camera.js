// Classify the camera's picture again and again, with one fold, and show the face, the bars and the rate.

import { canvasPixels } from "photo_pixels";
import { nextTask } from "classifier";
import { outline, resultBars, warningList } from "results";
import { show } from "translation";

// Milliseconds over which the rate is averaged, and after which the warnings are updated.
const RATE_INTERVAL = 1000;
const FAILURES = { NotFoundError: "camera_none", OverconstrainedError: "camera_none", NotAllowedError: "camera_denied" };

// The part of a camera picture that is classified, {left, top, width, height}. Without a face crop the model needs the
// head and shoulders of a portrait, so that this is the largest part with a training photo's aspect ratio.
export function cameraPart(width, height, settings) {
  if (settings.crop === "face") return { left: 0, top: 0, width, height };
  const aspect = settings.photo_size[1] / settings.photo_size[0];
  const partWidth = Math.min(width, Math.round(height * aspect)), partHeight = Math.min(height, Math.round(width / aspect));
  const left = Math.floor((width - partWidth) / 2), top = Math.floor((height - partHeight) / 2);
  return { left, top, width: partWidth, height: partHeight };
}

export class Camera {
  constructor(classifier, elements) {
    Object.assign(this, { classifier, elements, stream: null });
    this.canvas = new OffscreenCanvas(1, 1);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.result = resultBars(classifier.settings.axes);
    elements.result.append(this.result.best, this.result.bars);
    this.notes = document.createElement("div");
    elements.result.append(this.notes);
  }

  get isOn() {
    return this.stream !== null;
  }

  async start() {
    const { state, video, live, button } = this.elements;
    if (!navigator.mediaDevices) return show(state, "camera_insecure");
    button.disabled = true;
    show(state, "camera_starting");
    try {
      const size = { width: { ideal: 640 }, height: { ideal: 480 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", ...size }, audio: false });
      video.srcObject = this.stream;
      await video.play();
    } catch (error) {
      this.stop();
      show(state, FAILURES[error.name] ?? "camera_failed", { reason: error.name });
      return;
    } finally {
      button.disabled = false;
    }
    // The camera was unplugged.
    this.stream.getTracks().forEach((track) => (track.onended = () => this.stop()));
    show(button, "camera_stop");
    show(state, this.classifier.settings.crop === "face" ? "" : "camera_frame");
    live.hidden = false;
    await this.run();
  }

  stop() {
    const { state, video, live, button } = this.elements;
    this.stream?.getTracks().forEach((track) => track.stop());
    [this.stream, video.srcObject, live.hidden] = [null, null, true];
    show(button, "camera_start");
    show(state, "");
  }

  async run() {
    const { video, overlay, result } = this.elements, stream = this.stream;
    let since = performance.now(), count = 0;
    while (this.stream === stream) {
      if (video.videoWidth && !document.hidden) {
        const part = this.grab(video), answer = await this.classifier.classify(canvasPixels(this.canvas, this.context), false);
        if (this.stream !== stream) return;
        this.result.update(answer.probs);
        result.dataset.probs = JSON.stringify(answer.probs);
        result.dataset.count = Number(result.dataset.count ?? 0) + 1;
        this.draw(overlay, video, part, answer);
        count++;
        const elapsed = performance.now() - since;
        if (elapsed > RATE_INTERVAL) {
          this.report(answer, (1000 * count) / elapsed);
          [since, count] = [performance.now(), 0];
        }
      }
      // Waits for the next picture of the screen, but also goes on where the page is not visible.
      await Promise.race([new Promise(requestAnimationFrame), new Promise((resolve) => setTimeout(resolve, 100))]);
      await nextTask();
    }
  }

  // Copy the part that is classified from the video into this.canvas; a portrait is scaled to a training photo's size.
  grab(video) {
    const { settings } = this.classifier, part = cameraPart(video.videoWidth, video.videoHeight, settings);
    const [height, width] = settings.crop === "face" ? [part.height, part.width] : settings.photo_size;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.context.drawImage(video, part.left, part.top, part.width, part.height, 0, 0, width, height);
    return part;
  }

  draw(overlay, video, part, answer) {
    const { settings } = this.classifier, scale = part.width / this.canvas.width;
    if (overlay.width !== video.videoWidth) [overlay.width, overlay.height] = [video.videoWidth, video.videoHeight];
    const context = overlay.getContext("2d");
    context.clearRect(0, 0, overlay.width, overlay.height);
    const faces = answer.faces.map(([left, top, ...size]) => [
      left * scale + part.left, top * scale + part.top, ...size.map((side) => side * scale),
    ]);
    const frame = [part.top, part.left, part.height, part.width];
    // Without a face, the centre of the picture is classified, but a frame there would suggest that this is intended.
    const window = settings.crop === "face" && faces.length ? answer.window : frame;
    outline(context, { faces, window, width: overlay.width, height: overlay.height }, settings, 3);
  }

  report(answer, rate) {
    const { settings } = this.classifier;
    this.notes.replaceChildren(warningList(answer, settings));
    const shown = rate < 10 ? rate.toFixed(1) : Math.round(rate);
    show(this.elements.rate, "rate", { n: shown });
  }
}
