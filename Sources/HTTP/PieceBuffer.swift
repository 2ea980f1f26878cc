internal import Synchronization

/// A bounded buffer of pieces between a Swift task and libcurl's thread. One side waits by suspending, the other never
/// waits: it pauses its transfer.
final class PieceBuffer: Sendable {
    fileprivate struct State {
        var pieces: [[UInt8]] = []
        var first = 0
        /// Bytes of the first piece that are taken already.
        var offset = 0
        var count = 0
        var isEnded = false
        var error: (any Error)?
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Adds a piece, after waiting for room; `false` when nobody takes any more.
    func put(_ piece: [UInt8]) async -> Bool {
        while true {
            let isOpen = state.withLock { state -> Bool? in
                if state.isEnded { return false }
                guard state.count == 0 || state.count + piece.count <= limit else { return nil }
                state.pieces.append(piece)
                state.count += piece.count
                return true
            }
            if let isOpen { return isOpen }
            await wait { $0.isEnded || $0.count == 0 || $0.count + piece.count <= self.limit }
        }
    }

    /// Adds a piece without waiting; `false` when there is no room for it now.
    func offer(_ piece: UnsafeBufferPointer<UInt8>) -> Bool {
        wake { state in
            guard state.count == 0 || state.count + piece.count <= limit else { return false }
            state.pieces.append(Array(piece))
            state.count += piece.count
            return true
        }
    }

    /// The next piece, after waiting for it; `nil` at the end. Throws what `fail` was given.
    func next() async throws -> [UInt8]? {
        while true {
            let found = try state.withLock { state -> [UInt8]?? in
                if state.first < state.pieces.count {
                    let piece = state.pieces[state.first]
                    state.drop(piece.count)
                    return .some(piece)
                }
                if let error = state.error { throw error }
                return state.isEnded ? .some(nil) : nil
            }
            if let found { return found }
            await wait { $0.isEnded || $0.error != nil || $0.count > 0 }
        }
    }

    enum Taken { case bytes(Int), nothingYet, ended, failed }

    /// Copies what fits into `target` without waiting.
    func take(into target: UnsafeMutableBufferPointer<UInt8>) -> Taken {
        wake { state in
            if state.error != nil { return .failed }
            guard state.first < state.pieces.count else { return state.isEnded ? .ended : .nothingYet }
            let piece = state.pieces[state.first][state.offset...]
            let count = min(piece.count, target.count)
            _ = target.update(fromContentsOf: piece.prefix(count))
            state.offset += count
            state.count -= count
            if state.offset == state.pieces[state.first].count { state.dropFirst() }
            return .bytes(count)
        }
    }

    /// No more pieces come; what is there may still be taken.
    func end() { wake { $0.isEnded = true } }

    func fail(_ error: any Error) { wake { $0.error = error } }

    /// Nobody takes any more: what is there is dropped, whoever waits is woken.
    func close() {
        wake { state in
            state.isEnded = true
            state.pieces = []
            (state.first, state.offset, state.count) = (0, 0, 0)
        }
    }

    private func wake<T>(_ body: (inout State) -> T) -> T {
        let (value, waiter) = state.withLock { state in
            let value = body(&state)
            let waiter = state.waiter
            state.waiter = nil
            return (value, waiter)
        }
        waiter?.resume()
        return value
    }

    /// Suspends until something changes, unless `isReady` holds already. Cancellation arrives as `close`.
    private func wait(until isReady: @Sendable (borrowing State) -> Bool) async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if isReady(state) { return true }
                state.waiter = continuation
                return false
            }
            if isDone { continuation.resume() }
        }
    }
}

extension PieceBuffer.State {
    fileprivate mutating func drop(_ size: Int) {
        count -= size - offset
        dropFirst()
    }

    fileprivate mutating func dropFirst() {
        pieces[first] = []
        first += 1
        offset = 0
        guard first == pieces.count || first >= 64 else { return }
        pieces.removeFirst(first)
        first = 0
    }
}
