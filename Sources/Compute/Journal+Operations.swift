internal import Model
internal import SQL
internal import SQLite

extension SQLConnection {
    /// Operations one instance may have waiting; a further command is refused.
    static var laneLimit: Int { 16 }

    func operation(_ id: TaskID) throws -> OperationRecord? {
        try query(
            "SELECT \(operationColumns) FROM operations WHERE id = ?", [.text(id.rawValue)], readOperation
        ).first
    }

    /// The operations of an instance that have not ended, in the order they were accepted.
    func lane(_ instance: InstanceID) throws -> [OperationRecord] {
        try query(
            "SELECT \(operationColumns) FROM operations WHERE instance = ? AND ended_at IS NULL ORDER BY position",
            [.text(instance.rawValue)], readOperation)
    }

    /// Every operation that has not ended, in the order they were accepted.
    func openOperations() throws -> [OperationRecord] {
        try query(
            "SELECT \(operationColumns) FROM operations WHERE ended_at IS NULL ORDER BY position", [], readOperation)
    }

    func insert(_ operation: OperationRecord) throws {
        try execute(
            """
            INSERT INTO operations (id, kind, instance, task, generation, epoch, request_id, accepted_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .text(operation.id.rawValue), .text(operation.kind.rawValue), .text(operation.instance.rawValue),
                SQLValue(operation.task?.rawValue), .integer(operation.fence.generation),
                .integer(operation.fence.epoch), .text(operation.requestID.rawValue),
                .integer(operation.acceptedAt.microseconds),
            ])
    }

    func raiseFence(of id: TaskID, to fence: Fence) throws {
        try execute(
            "UPDATE operations SET generation = ?, epoch = ? WHERE id = ?",
            [.integer(fence.generation), .integer(fence.epoch), .text(id.rawValue)])
    }

    func end(_ id: TaskID, _ outcome: OperationOutcome) throws {
        try execute(
            "UPDATE operations SET ended_at = ?, outcome = ? WHERE id = ?",
            [.integer(outcome.endedAt.microseconds), .blob(try encode(outcome)), .text(id.rawValue)])
    }
}

private let operationColumns = "id, kind, instance, task, generation, epoch, request_id, accepted_at, outcome"

private func readOperation(_ row: borrowing SQLRow) throws -> OperationRecord {
    guard let kind = OperationKind(rawValue: row.text(1)) else {
        throw Failure(.internalError, "the journal holds an operation of the unknown kind \(row.text(1))")
    }
    return OperationRecord(
        id: TaskID(row.text(0)), kind: kind, instance: InstanceID(row.text(2)),
        task: row.textOrNil(3).map(TaskID.init(rawValue:)),
        fence: Fence(generation: row.int64(4), epoch: row.int64(5)), requestID: RequestID(row.text(6)),
        acceptedAt: Timestamp(microseconds: row.int64(7)),
        outcome: try row.blobOrNil(8).map { try decode(OperationOutcome.self, $0) })
}
