// Code and tables that are wider than the page can be scrolled by the keyboard, and the buttons of
// code have names of their own. The theme does it for code alone, on devices with a pointer.
function complete() {
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((box) => {
    if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) box.tabIndex = 0;
  });
  document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((buttons) => {
    buttons.setAttribute("aria-label", `Buttons of ${buttons.parentElement.id}`);
  });
}

const changes = { subtree: true, childList: true, attributeFilter: ["tabindex"] };
new MutationObserver(complete).observe(document.body, changes);
window.addEventListener("resize", complete);
complete();
