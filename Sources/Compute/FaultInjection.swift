#if FaultInjection
    internal import Glibc
    internal import Model
    internal import Tasks

    /// Faults at named points of operations, as tests ask for them in the environment. Only builds with the trait of this
    /// name have it.
    ///
    /// `APUS_FAULT=KIND/STEP/before|after|undo` ends the process by SIGKILL before the step's work, or after the step's work or
    /// its undoing and before either is recorded; `KIND/finished/before|after` does so at the operation's end.
    /// `APUS_FAIL=KIND/STEP` lets the step fail, for good, when its work is done.
    struct FaultInjection: Sendable, Hashable {
        struct Death: Sendable, Hashable {
            var kind: String
            var step: String
            var phase: TaskHook.Phase
        }

        struct Failing: Sendable, Hashable {
            var kind: String
            var step: String
        }

        var death: Death?
        var failing: Failing?

        /// What the process's environment asks for; `nil` when it asks for nothing.
        static func armed() throws -> FaultInjection? { try environment.get() }

        private static let environment = Result {
            try FaultInjection(
                fault: getenv("APUS_FAULT").map { String(cString: $0) },
                fail: getenv("APUS_FAIL").map { String(cString: $0) })
        }

        /// Throws `Failure` for a text of another form, and for a point that no operation has.
        init?(fault: String?, fail: String?) throws {
            if fault == nil, fail == nil { return nil }
            death = try fault.map { try Self.death($0) }
            failing = try fail.map { text in
                let words = Self.words(text)
                guard words.count == 2 else { throw Self.refusal("APUS_FAIL", text, "KIND/STEP") }
                try Self.check(words[0], words[1], text)
                return Failing(kind: words[0], step: words[1])
            }
        }

        func watch(_ engine: TaskEngine) {
            guard let death else { return }
            engine.hooks = { hook in
                guard hook.kind == death.kind, hook.step == death.step, hook.phase == death.phase else { return }
                kill(getpid(), SIGKILL)
                // The signal may reach another thread first: this one must not go on until it has.
                while true { pause() }
            }
        }

        func failIfAsked(kind: String, step: String) throws {
            guard failing == Failing(kind: kind, step: step) else { return }
            throw Failure(.internalError, "the step \(step) failed because a test asked for it")
        }

        private static func death(_ text: String) throws -> Death {
            let words = words(text)
            guard words.count == 3 else { throw refusal("APUS_FAULT", text, "KIND/STEP/before, after or undo") }
            let isEnd = words[1] == TaskRow.finishingStep
            let phase: TaskHook.Phase
            switch (words[2], isEnd) {
            case ("before", false): phase = .beforeStep
            case ("after", false): phase = .afterStep
            case ("undo", false): phase = .afterUndo
            case ("before", true): phase = .beforeFinished
            case ("after", true): phase = .afterFinished
            default: throw refusal("APUS_FAULT", text, isEnd ? "before or after" : "before, after or undo")
            }
            if !isEnd { try check(words[0], words[1], text) }
            return Death(kind: words[0], step: words[1], phase: phase)
        }

        private static func words(_ text: String) -> [String] { text.split(separator: "/").map(String.init) }

        private static func check(_ kind: String, _ step: String, _ text: String) throws {
            guard let kind = OperationKind(rawValue: kind), OperationDefinitions.stepNames(of: kind).contains(step)
            else {
                throw refusal("A fault", text, "a step of an operation")
            }
        }

        private static func refusal(_ name: String, _ text: String, _ allowed: String) -> Failure {
            Failure(.invalidParameters, "\(name) is '\(text)', which is not \(allowed)")
        }
    }

    /// Every kind of operation with its steps, one JSON object each: what tests generate their points from.
    public func operationStepLines() -> [String] {
        OperationKind.allCases.compactMap { kind in
            let names = OperationDefinitions.stepNames(of: kind)
            guard !names.isEmpty else { return nil }
            let members: [String: JSON] = [
                "kind": .string(kind.rawValue), "steps": .array(names.map { .string($0) }),
            ]
            return String(decoding: JSON.object(members).serialized(), as: UTF8.self)
        }
    }
#endif
