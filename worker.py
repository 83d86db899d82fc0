"""Starts one worker process: of generation, or with the argument `deliveries` of webhooks and mails. SIGTERM drains it;
a second one gives back what it has in flight and ends it."""

if __name__ == "__main__":
    from worker.main import main

    main()
