// Parts of the side bar fold: open is the one that holds this page. Without this script all of them lie open.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-links__toctree-wrapper, nav.bd-links, .bd-toc-item").forEach((bar) =>
    bar.querySelectorAll("p.caption").forEach((caption) => {
      const list = caption.nextElementSibling;
      if (!list || list.tagName !== "UL" || caption.closest("summary")) return;
      const fold = document.createElement("details"), head = document.createElement("summary");
      fold.className = "part";
      fold.open = !!list.querySelector(".current");
      caption.replaceWith(fold);
      head.append(caption);
      fold.append(head, list);
    }),
  );
});
