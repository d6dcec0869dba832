"""No servers, no network; seconds."""
