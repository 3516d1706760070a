// Everything that happens on the page without the server: seeking, the timeline's mark, uploads, light and dark.
(() => {
  const video = () => document.querySelector("#player video");

  function seek(seconds) {
    const player = video();
    if (!player) return;
    player.currentTime = seconds;
    const box = player.getBoundingClientRect();
    if (box.top < 0 || box.bottom > innerHeight) player.scrollIntoView({ behavior: "smooth", block: "center" });
  }

  function openVideo(element, detail) {
    // Gradio's listener sits on an element around the component's content.
    element.dispatchEvent(new CustomEvent("vl-open", { bubbles: true, detail }));
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek], [data-open], [data-theme]");
    if (!target) return;
    if ("seek" in target.dataset) seek(Number(target.dataset.seek));
    else if ("open" in target.dataset) openVideo(target, { name: target.dataset.open, at: Number(target.dataset.at) });
    else setDark(!document.body.classList.contains("dark"), true);
  });

  // Media events do not bubble, but they are captured.
  document.addEventListener("timeupdate", () => {
    const time = video()?.currentTime ?? -1;
    for (const cell of document.querySelectorAll("#timeline .vl-cell, #lanes .vl-bar")) {
      cell.toggleAttribute("aria-current", time >= Number(cell.dataset.seek) && time < Number(cell.dataset.end));
    }
    follow(time);
    drawBoxes();
  }, true);
  for (const kind of ["seeked", "loadeddata", "play"]) document.addEventListener(kind, () => drawBoxes(), true);
  addEventListener("resize", () => drawBoxes());

  // The transcript scrolls by itself only where the line that is being said changes: a reader may scroll meanwhile.
  function follow(time) {
    for (const line of document.querySelectorAll("#transcript li")) {
      const now = time >= Number(line.dataset.from) && time < Number(line.dataset.end);
      if (now && !line.hasAttribute("aria-current")) {
        const list = line.parentElement;
        list.scrollTo({ top: line.offsetTop - list.offsetTop - list.clientHeight / 2, behavior: "smooth" });
      }
      line.toggleAttribute("aria-current", now);
    }
  }

  // A box moves evenly between the times at which its object was seen.
  function boxAt(track, time) {
    if (time < track.times[0] || time > track.end) return null;
    const after = track.times.findIndex((seen) => seen > time), before = after < 0 ? track.times.length - 1 : after - 1;
    const box = track.boxes[before];
    if (after < 0) return box;
    const share = (time - track.times[before]) / (track.times[after] - track.times[before]);
    return box.map((side, n) => side + share * (track.boxes[after][n] - side));
  }

  let tracks = [], tracksOf = "", nextFrame = 0;
  function drawBoxes() {
    const player = video();
    const text = document.querySelector("#lanes .vl-lanes")?.dataset.tracks ?? "[]";
    if (!player) return;
    if (text !== tracksOf) [tracksOf, tracks] = [text, JSON.parse(text)];
    let canvas = document.querySelector("#player canvas");
    if (!canvas && !tracks.length) return;
    if (!canvas) {
      canvas = document.createElement("canvas");
      canvas.className = "vl-boxes";
      canvas.setAttribute("aria-hidden", "true");
      player.after(canvas);
    }
    // The picture keeps its shape inside the player, with black beside or above it.
    const { offsetLeft, offsetTop, clientWidth, clientHeight, videoWidth, videoHeight, currentTime } = player;
    const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
    const width = videoWidth * scale, height = videoHeight * scale, dense = devicePixelRatio || 1;
    Object.assign(canvas, { width: width * dense, height: height * dense });
    Object.assign(canvas.style, {
      left: `${offsetLeft + (clientWidth - width) / 2}px`, top: `${offsetTop + (clientHeight - height) / 2}px`,
      width: `${width}px`, height: `${height}px`,
    });
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    pen.font = "600 12px system-ui, sans-serif";
    let shown = 0;
    for (const [n, track] of tracks.entries()) {
      const box = boxAt(track, currentTime);
      if (!box) continue;
      shown += 1;
      const [left, top, right, bottom] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
      pen.strokeStyle = pen.fillStyle = `hsl(${(n * 222.5) % 360} 80% 36%)`;  // steps of the golden ratio
      pen.lineWidth = 2;
      pen.strokeRect(left + 1, top + 1, right - left - 2, bottom - top - 2);
      pen.fillRect(left, top, pen.measureText(track.label).width + 10, 18);
      pen.fillStyle = "#fff";
      pen.fillText(track.label, left + 5, top + 13);
    }
    canvas.dataset.shown = shown;
    cancelAnimationFrame(nextFrame);
    if (!player.paused && !player.ended) nextFrame = requestAnimationFrame(drawBoxes);
  }
  document.addEventListener("error", (event) => {
    if (event.target === video()) document.querySelector("#player .vl-unplayable").hidden = false;
  }, true);

  function setDark(dark, keep) {
    if (keep) localStorage.setItem("videollm-theme", dark ? "dark" : "light");
    document.body.classList.toggle("dark", dark);
  }
  // Gradio sets its own choice when it has loaded, and again when the system's changes.
  function hold() {
    const chosen = localStorage.getItem("videollm-theme");
    if (chosen && document.body.classList.contains("dark") !== (chosen === "dark")) setDark(chosen === "dark", false);
  }
  function watch() {
    hold();
    new MutationObserver(hold).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    watchLanes();
  }
  // Gradio replaces the lanes when they are found, and empties them for another video.
  function watchLanes() {
    new MutationObserver((changes) => {
      if (changes.some((change) => change.target.closest?.("#lanes"))) drawBoxes();
    }).observe(document.body, { childList: true, subtree: true });
  }
  if (document.body) watch();
  else addEventListener("DOMContentLoaded", watch);

  function upload(drop, file) {
    const input = drop.querySelector("input"), bar = drop.querySelector("progress"), form = new FormData();
    const request = new XMLHttpRequest();
    form.append("file", file);
    bar.hidden = false;
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    request.onloadend = () => {
      bar.hidden = true;
      input.value = "";
      const reply = request.response;
      const problem = drop.parentElement.querySelector("[role=alert]");
      problem.textContent = request.status === 200 ? "" : `${problem.dataset.text}: ${reply?.error?.message ?? request.status}`;
      if (request.status === 200) openVideo(drop, { name: reply.name, at: 0 });
    };
    request.responseType = "json";
    request.open("POST", "/media");
    request.send(form);
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches(".vl-drop input") && event.target.files.length) {
      upload(event.target.closest(".vl-drop"), event.target.files[0]);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.(".vl-drop") && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      event.target.querySelector("input").click();
    }
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const drop = event.target.closest?.(".vl-drop");
      if (!drop) return;
      event.preventDefault();
      drop.toggleAttribute("data-over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) upload(drop, event.dataTransfer.files[0]);
    });
  }
})();
