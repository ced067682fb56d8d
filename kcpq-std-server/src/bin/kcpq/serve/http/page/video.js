// Plays H.264 as the example h264_relay publishes it, by WebCodecs. /video.html?subject=video.camera

import { show, tuneIn } from "./tuned.js";

const canvas = document.querySelector("#canvas");
const paper = canvas.getContext("2d");
const figures = { frames: 0, shown: 0, dropped: 0 };
let [decoder, next, trouble] = [null, null, ""];

/** Where NAL units begin: the byte behind each start code. */
function* units(bytes) {
  for (let at = 2; at + 1 < bytes.length; at++) {
    if (bytes[at] === 1 && bytes[at - 1] === 0 && bytes[at - 2] === 0) yield at + 1;
  }
}

/** The codec's name, as its sequence parameter set says it. */
const codecOf = (bytes) => {
  for (const at of units(bytes)) {
    if ((bytes[at] & 0x1f) !== 7) continue;
    const profile = [...bytes.subarray(at + 1, at + 4)].map((byte) => byte.toString(16).padStart(2, "0"));
    return `avc1.${profile.join("")}`;
  }
  return null;
};

const paint = (frame) => {
  if (canvas.width !== frame.displayWidth) [canvas.width, canvas.height] = [frame.displayWidth, frame.displayHeight];
  paper.drawImage(frame, 0, 0);
  frame.close();
  figures.shown += 1;
};

const begin = (codec) => {
  decoder = new VideoDecoder({ output: paint, error: (error) => ([trouble, next] = [error.message, null]) });
  decoder.configure({ codec, optimizeForLatency: true });
};

const take = (message) => {
  const [frame, isKey] = [Number(message.header("Frame")), message.header("Key") === "yes"];
  if (message.payload.length === 0 || Number.isNaN(frame)) return void (next = null);
  figures.frames += 1;
  if (next !== null && frame !== next) figures.dropped += Math.max(frame - next, 0);
  // What is missing is missing in all that follows, up to the next picture that needs no other.
  if (frame !== next && !isKey) return void (next = null);
  if (typeof VideoDecoder === "undefined") return void (trouble = "this browser has no WebCodecs, or only for https and this machine");
  if (decoder === null || decoder.state === "closed") {
    const codec = codecOf(message.payload);
    if (codec === null) return;
    begin(codec);
  }
  next = frame + 1;
  const timestamp = Number(message.header("Sent"));
  decoder.decode(new EncodedVideoChunk({ type: isKey ? "key" : "delta", timestamp, data: message.payload }));
  figures.late = `${Math.max(Date.now() - timestamp / 1_000, 0).toFixed(0)} ms`;
};

setInterval(() => show(trouble ? { ...figures, trouble } : figures), 500);
tuneIn("video.camera", take);
