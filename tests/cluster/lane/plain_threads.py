"""`plain_threads.py FOLDER`: in Java sources, virtual threads (JDK 21) become plain daemon threads (JDK 17)."""

import sys
from pathlib import Path

CALL = "Thread.ofVirtual().start("
METHOD = """\
    private static Thread startThread(Runnable runnable) {
        Thread thread = new Thread(runnable);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}
"""


def main(folder: Path) -> None:
    for path in folder.glob("*/src/main/**/*.java"):
        text = path.read_text(encoding="utf-8")
        if CALL in text:
            changed = text.replace(CALL, "startThread(")
            path.write_text(changed[: changed.rindex("}")] + METHOD, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
