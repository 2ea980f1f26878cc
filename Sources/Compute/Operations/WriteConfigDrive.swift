internal import Model
internal import Tasks

/// Writes the config drive, and forgets the secrets that went into it.
struct WriteConfigDrive: GuestStep {
    let name = "write_config_drive"
    let deadline = Duration.seconds(60)
    let taskState: TaskState? = .spawning

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.writeConfigDrive(
            state.specification,
            secrets: ConfigDriveSecrets(adminPassword: state.adminPassword, files: state.files ?? []))
        state.forgetSecrets()
        return .next
    }
    // The drive lies in the instance's folder and goes with it.
}
