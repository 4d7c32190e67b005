/** The page of predictions: its forms go by script, and the address keeps up. */

import { follow } from "./predict_part";

const page = document.querySelector<HTMLElement>("main") ?? document.body;
follow(page, (url) => { if (url !== "") history.replaceState(null, "", url); });
