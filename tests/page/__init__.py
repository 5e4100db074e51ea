"""The chat page and the browser client in a real Chromium, against a real `parley up`."""
