internal import Model
internal import SQL
internal import SQLite
internal import TaskStore
internal import Tasks

/// Writes the durable task of an operation in the transaction that records the operation.
struct OperationRows: Sendable {
    let host: HostName

    /// A task that is runnable at once when it is first in its lane, and waits for a signal when it is not.
    func insert(
        _ operation: OperationRecord, _ state: some OperationState, isFirst: Bool, on connection: SQLConnection
    ) throws {
        var row = try TaskEngine.makeRow(
            kind: operation.kind.rawValue, instance: operation.instance, requestID: operation.requestID,
            generation: operation.fence.generation, state: state, now: operation.acceptedAt)
        row.id = operation.id
        if !isFirst { row.status = .waiting }
        try SQLTaskStorage.insert(row, on: connection)
    }
}
