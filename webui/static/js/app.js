// @ts-check
/** Everything a page may need; each part wakes only where its element or attribute stands. */

import "./actions.js";
import "./dialogs.js";
import "./forms.js";
import "./elements/small.js";
import "./elements/shell.js";
import "./elements/palette.js";
import "./elements/meters.js";
import "./elements/live-region.js";
import "./elements/live-table.js";
import "./elements/op-progress.js";
import "./elements/stat-chart.js";
import "./elements/log-view.js";
import "./elements/create-form.js";
import "./elements/upload-zone.js";
import "./elements/process-table.js";
import "./elements/change-list.js";
import "./elements/file-browser.js";
import { live } from "./live.js";
import { startNavigation } from "./navigation.js";

startNavigation();
live.connect();
