engines: dict[int, object]
