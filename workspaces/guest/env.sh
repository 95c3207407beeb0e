# Read by interactive POSIX shells (through $ENV): brings `snapshot` back after /etc/profile has set PATH anew.
case ":$PATH:" in
*":${ENV%/env.sh}/bin:"*) ;;
*) PATH="${ENV%/env.sh}/bin:$PATH" ;;
esac
