import { call } from "/static/requests.js";

for (const button of document.querySelectorAll("[data-undo]")) {
  button.addEventListener("click", async () => {
    try {
      await call("POST", `/api/tasks/${button.dataset.undo}/undo`, {});
      location.href = "/work";
    } catch (error) {
      button.replaceWith(error.message);
    }
  });
}
