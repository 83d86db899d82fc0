"""Starts one worker process. SIGTERM drains it; a second SIGTERM gives its jobs back and ends it."""

if __name__ == "__main__":
    from worker.main import main

    main()
