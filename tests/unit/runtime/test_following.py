import logging
import threading

from functions.runtime.restarting_thread import RestartingThread


def test_what_fails_is_followed_anew_and_says_why(caplog):
    caplog.set_level(logging.WARNING)
    again = threading.Event()
    turns = []

    def follow(stop):
        turns.append(1)
        if len(turns) == 1:
            raise ConnectionError("no broker")
        again.set()
        stop.wait(10)

    following = RestartingThread(follow, name="status", retry_s=0.001)
    following.start()
    assert again.wait(10)
    assert following.is_alive()
    following.close()
    assert not following.is_alive()
    (record,) = caplog.records
    assert ("status", "ConnectionError: no broker") == (record.followed, record.reason)


def test_it_may_be_closed_before_it_was_started():
    RestartingThread(lambda stop: None, name="never").close()
