public import Model

/// A moment in a task's life at which a test may kill the process.
public struct TaskHook: Sendable, Hashable {
    public enum Phase: String, Sendable, Hashable, CaseIterable {
        case beforeStep, afterStep, beforeUndo, afterUndo, beforeFinished, afterFinished, beforeSave, afterSave
    }

    public let id: TaskID
    public let kind: String
    public let step: String?
    public let phase: Phase
}
