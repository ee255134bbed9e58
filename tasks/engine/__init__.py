"""The engine: a process of its own that holds one loaded model and runs several jobs on it at once.

    recognizer   WhisperX and the model, inside the engine; the only module that imports torch
    child        the engine process: reads requests, answers with events
    faults       what its errors say: memory, the device, or neither
    probe        whether a GPU can be used, asked of a child
    meter        what the engine and each job hold in memory
    patience     how long it may go on without getting anywhere
    process      the worker's side of one engine process
    engines      which engine runs now: spawned when needed, replaced for another model, leaves when idle

The two sides talk in JSON lines over a socket pair:

    to the engine    {"op": "transcribe", "id", "sound", "language", "journal", "batch"}  {"op": "cancel", "id"}
                     {"op": "aligner", "id", "folder", "note"}  {"op": "quit"}
    to the worker    {"event": "ready"}  {"event": "beat", "held"}  {"event": "progress", "id", "stage", "progress"}
                     {"event": "aligner", "id", "language"}  {"event": "done", "id", "transcript", "note", "usage"}
                     {"event": "failed", "id", "code", "message"}  {"event": "canceled", "id"}
                     {"event": "broken", "code", "message"}
"""
