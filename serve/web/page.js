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

  // Gradio's listeners sit on an element around the content of one component, which turns these events into actions.
  function send(kind, detail) {
    document.querySelector("#bus .vl-bus").dispatchEvent(new CustomEvent(`vl-${kind}`, { detail, bubbles: true }));
  }
  function open(name, at, added) {
    const shown = document.querySelector("#player [data-choice]");
    if (shown?.dataset.choice === name && !added) seek(at);
    else send("open", { name, at, added });
  }

  const ACTIONS = {
    ask: (element) => send("ask", { question: element.dataset.ask, about: element.dataset.about ?? "" }),
    seek: (element) => seek(Number(element.dataset.seek)),
    open: (element) => open(element.dataset.open, Number(element.dataset.at ?? 0), false),
    remove: (element) => send("remove", { name: element.dataset.remove }),
    enter: (element) => { send("enter", { name: element.dataset.enter }); element.closest("[popover]")?.hidePopover(); },
    delete: (element) => send("delete", { name: element.dataset.delete }),
    restore: (element) => send("restore", { name: element.dataset.restore }),
    follow: (element) => send("follow", { name: element.dataset.follow }),
    new: () => send("new", {}),
    copy: (element) => navigator.clipboard.writeText(element.closest(".message").querySelector(".prose").innerText.trim()),
    theme: () => setDark(!document.body.classList.contains("dark"), true),
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest(Object.keys(ACTIONS).map((name) => `[data-${name}]`).join());
    if (target) ACTIONS[Object.keys(ACTIONS).find((name) => name in target.dataset)](target);
    // A time in an answer is about the video that the answer cites first, or else about the one that is shown.
    const time = event.target.closest("#chat a[href*='#t=']");
    if (!time) return;
    event.preventDefault();
    const seconds = Number(time.hash.slice(3)), cited = time.closest(".message")?.querySelector("[data-open]");
    if (cited) open(cited.dataset.open, seconds, false);
    else seek(seconds);
  });

  // Whoever leaves the list of conversations by keyboard has done with it.
  document.addEventListener("focusout", (event) => {
    const list = event.target.closest?.("[popover]");
    if (list && event.relatedTarget && !list.contains(event.relatedTarget)) list.hidePopover();
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
    watchParts();
  }
  // Gradio replaces the lanes when they are found and empties them for another video. It also replaces the list.
  function watchParts() {
    document.querySelector("#conversations")?.setAttribute("popover", "");
    new MutationObserver((changes) => {
      const inside = (name) => changes.some((change) => change.target.closest?.(name));
      if (inside("#lanes")) drawBoxes();
      document.querySelector("#conversations:not([popover])")?.setAttribute("popover", "");
      if (inside("#conversations")) nameConversation();
      if (inside("#chat")) showQuestion();
    }).observe(document.body, { childList: true, subtree: true });
  }
  if (document.body) watch();
  else addEventListener("DOMContentLoaded", watch);

  // On a phone the page scrolls and not the chat: a question that was just asked is brought into view.
  let asked = 0;
  function showQuestion() {
    const questions = document.querySelectorAll("#chat .message.user"), isNew = questions.length === asked + 1;
    asked = questions.length;
    if (isNew && innerWidth <= 768) questions[asked - 1].scrollIntoView({ behavior: "smooth", block: "start" });
  }

  // The address names the conversation, so that it is there again after a reload and in the other language.
  function nameConversation() {
    const history = document.querySelector("#conversations .vl-history");
    if (!history) return;
    const kept = history.querySelector(".vl-here"), address = new URL(location.href);
    if (kept) address.searchParams.set("c", history.dataset.conversation);
    else address.searchParams.delete("c");
    if (address.href !== location.href) window.history.replaceState(null, "", address);
    const other = document.querySelector("a[hreflang]");
    if (other) other.search = address.search;
  }

  function upload(files) {
    const [file, ...rest] = files, attach = document.querySelector(".vl-attach"), form = new FormData();
    if (!file) return;
    const input = attach.querySelector("input"), bar = attach.querySelector("progress"), request = new XMLHttpRequest();
    form.append("file", file);
    bar.hidden = false;
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    request.onloadend = () => {
      bar.hidden = true;
      input.value = "";
      const reply = request.response;
      const problem = attach.parentElement.querySelector("[role=alert]");
      problem.textContent = request.status === 200 ? "" : `${problem.dataset.text}: ${reply?.error?.message ?? request.status}`;
      if (request.status === 200) open(reply.name, 0, true);
      upload(rest);
    };
    request.responseType = "json";
    request.open("POST", "/media");
    request.send(form);
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches(".vl-attach input")) upload([...event.target.files]);
    if (event.target.matches("[data-choose]")) open(event.target.value, 0, false);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    upload([...event.clipboardData.files]);
  }, true);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      document.body.toggleAttribute("data-over", kind === "dragover");
      if (kind === "drop") upload([...event.dataTransfer.files]);
    }, true);
  }
})();
