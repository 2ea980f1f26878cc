internal import Model
internal import Tasks

/// Saves the guest's memory to disk and turns it off.
struct SuspendGuest: GuestStep {
    let name = "suspend_guest"
    // Terabytes of memory take long to write.
    let deadline = Duration.seconds(7_200)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.suspend(state.instanceID)
        return .next
    }

    /// A guest whose memory was saved all the same goes on.
    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        do {
            try await tools.driver.resume(state.instanceID)
        } catch let failure as Failure where failure.kind == .notFound {
            // Nothing was saved; it is as it is seen.
        }
    }
}

/// Lets the guest go on from its saved memory. Without one the guest is lost as it was, which must not pass for a boot.
struct ResumeGuest: GuestStep {
    let name = "resume_guest"
    let deadline = Duration.seconds(7_200)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.createMediatedDevices(of: try await tools.guest(state.instanceID)?.specification)
        do {
            try await tools.driver.resume(state.instanceID)
        } catch let failure as Failure where failure.kind == .notFound {
            state.isDismantled = true
            throw failure
        }
        return .next
    }
}

/// Removes the guest's saved memory, so that it boots.
struct DiscardSavedMemory: GuestStep {
    let name = "discard_saved_memory"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        // From here on it is a guest that is off, whatever the steps that follow come to.
        if state.vmState == .suspended { state.vmState = .stopped }
        do {
            try await tools.driver.discardSavedMemory(state.instanceID)
        } catch let failure as Failure where failure.kind == .notFound {
            // Without a domain there is no saved memory; the definition that follows makes one.
        }
        return .next
    }
}
