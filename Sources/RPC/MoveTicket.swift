internal import Crypto
public import Model

/// What opens the disks that a source has set aside to the destination of the migration. Made by a conductor from what it
/// and the source share, so that nothing needs to be stored or sent to the source.
public enum MoveTicket {
    /// - Parameter conductorSecretHash: lower-case hex sha256 of what conductors show to the source.
    public static func make(
        conductorSecretHash: String, migration: MigrationID, instance: InstanceID, destination: HostName
    ) -> String {
        let text = "apus-move\n\(migration)\n\(instance)\n\(destination)"
        return Hex.encode(hmacSHA256(key: Array(conductorSecretHash.utf8), Array(text.utf8)))
    }

    /// Whether the ticket is that of this migration and destination, in time that does not tell how near it was.
    public static func isGood(
        _ ticket: String, conductorSecretHash: String, migration: MigrationID, instance: InstanceID,
        destination: HostName
    ) -> Bool {
        let good = make(
            conductorSecretHash: conductorSecretHash, migration: migration, instance: instance,
            destination: destination)
        return constantTimeEquals(Array(ticket.utf8), Array(good.utf8))
    }
}
