import json, hashlib
from dataclasses import dataclass, asdict
from pathlib import Path
import numpy as np, pandas as pd, soxr, soundfile as sf
from avianspec.recordings import write_json, read_json
@dataclass(frozen=True)
class WaveConfig:
    "x"
    sr: int = 16000
    @property
    def key(self): return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
class WaveStore:
    def __init__(self, folder):
        self.folder = Path(folder); self.config = WaveConfig(**read_json(self.folder / "config.json")); self.key = self.config.key
        self.index = pd.read_csv(self.folder / "index.csv").set_index("recording_id"); self.y = np.load(self.folder / "y.npy", mmap_mode="r")
        self.quarantine = pd.DataFrame(columns=["recording_id", "path", "verdict", "reason"])
def build_waves(table, cfg, folder, jobs=2, progress=True):
    folder = Path(folder); folder.mkdir(parents=True, exist_ok=True); ys, rows, start = [], [], 0
    if not (folder / "y.npy").exists():
        for i, p in zip(table.recording_id, table.path):
            y, sr = sf.read(p, dtype="float32", always_2d=True); y = soxr.resample(y.mean(1), sr, cfg.sr); ys.append(y); rows.append((i, start, len(y))); start += len(y)
        np.save(folder / "y.npy", np.concatenate(ys)); pd.DataFrame(rows, columns=["recording_id", "start", "n"]).to_csv(folder / "index.csv", index=False)
        write_json(folder / "config.json", asdict(cfg))
    return WaveStore(folder)
class WaveGenerator:
    def __init__(self, store, ids, labels, task, duration_s=2.0, batch_size=64, seed=0, shuffle=True, augmentation=None, weights=None):
        self.store, self.ids, self.task, self.batch_size, self.seed, self.shuffle = store, list(ids), task, batch_size, seed, shuffle
        self.targets = task.targets(labels); self.n = round(duration_s * store.config.sr); self.weights = None if weights is None else np.asarray(weights, np.float32)
        self.set_epoch(0)
    def __len__(self): return -(-len(self.ids) // self.batch_size)
    def set_epoch(self, e):
        rng = np.random.default_rng([self.seed, e]); self.u = rng.random(len(self.ids)); self.order = rng.permutation(len(self.ids)) if self.shuffle else np.arange(len(self.ids))
    def _get(self, which):
        out = np.zeros((len(which), self.n, 1), np.float32)
        for k, w in enumerate(which):
            r = self.store.index.loc[self.ids[w]]; y = np.array(self.store.y[int(r.start):int(r.start) + int(r.n)])
            o = int(self.u[w] * (max(len(y) - self.n, 0) + 1)); y = y[o:o + self.n]; y = (y - y.min()) / max(np.ptp(y), 1e-6) - 0.5
            out[k, :len(y), 0] = y
        return (out, self.targets[which]) if self.weights is None else (out, self.targets[which], self.weights[which])
    def __getitem__(self, i): return self._get(self.order[i * self.batch_size:(i + 1) * self.batch_size])
    def windows(self, e): self.set_epoch(e); return self._get(np.arange(len(self.ids)))[:2]
    def facts(self): return repr((self.ids, self.seed, self.n, self.targets.tobytes()[:100]))
