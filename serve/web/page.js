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
    for (const cell of document.querySelectorAll("#timeline .vl-cell")) {
      cell.toggleAttribute("aria-current", time >= Number(cell.dataset.seek) && time < Number(cell.dataset.end));
    }
  }, true);
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
