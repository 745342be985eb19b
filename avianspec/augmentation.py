from dataclasses import dataclass
@dataclass(frozen=True)
class Augmentation:
    "x"
    mixup: float = 0.0
def parse_augmentation(text): return Augmentation()
